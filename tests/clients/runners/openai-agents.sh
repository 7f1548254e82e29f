# OpenAI Agents SDK for Python: responses API, streamed; it runs the tool itself
D="$(pip_dir openai-agents-0.24.0 openai-agents==0.24.0)" || exit 1
job_run OPENAI_BASE_URL="$ORIGIN/v1" OPENAI_API_KEY="$KEY" OPENAI_AGENTS_DISABLE_TRACING=1 PROMPT="$PROMPT" \
  MODEL="${MODEL:-gpt-mock}" "$D/bin/python" "$HERE/programs/openai_agents.py"
