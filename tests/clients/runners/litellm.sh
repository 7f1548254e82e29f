# LiteLLM SDK: chat completions and messages, streamed, tool loop
D="$(pip_dir litellm-1.100.5 litellm==1.100.5)" || exit 1
job_run ORIGIN="$ORIGIN" KEY="$KEY" PROMPT="$PROMPT" SCENARIO="$SCENARIO" LITELLM_LOCAL_MODEL_COST_MAP=True \
  "$D/bin/python" "$HERE/programs/litellm_job.py"
