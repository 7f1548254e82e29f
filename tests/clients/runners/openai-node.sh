# OpenAI SDK for Node: chat and responses streamed, tool loop
D="$(npm_dir openai-node-7.57.0 openai@7.57.0)" || exit 1
cp "$HERE/programs/openai_sdk.mjs" "$D/job.mjs"
job_run OPENAI_BASE_URL="$ORIGIN/v1" OPENAI_API_KEY="$KEY" PROMPT="$PROMPT" SCENARIO="$SCENARIO" MODEL="${MODEL:-gpt-mock}" node "$D/job.mjs"
