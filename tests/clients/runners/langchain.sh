# langchain-openai: chat completions and responses streamed, embeddings, tool loop
D="$(pip_dir langchain-openai-1.7.3 langchain-openai==1.7.3)" || exit 1
job_run OPENAI_BASE_URL="$ORIGIN/v1" OPENAI_API_KEY="$KEY" PROMPT="$PROMPT" SCENARIO="$SCENARIO" \
  MODEL="${MODEL:-gpt-mock}" "$D/bin/python" "$HERE/programs/langchain_job.py"
