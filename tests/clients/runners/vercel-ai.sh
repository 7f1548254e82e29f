# Vercel AI SDK: responses, chat completions and messages, streamed; it runs the tool itself
D="$(npm_dir ai-7.0.173 ai@7.0.173 @ai-sdk/openai @ai-sdk/anthropic)" || exit 1
cp "$HERE/programs/vercel_ai.mjs" "$D/job.mjs"
job_run ORIGIN="$ORIGIN" KEY="$KEY" PROMPT="$PROMPT" SCENARIO="$SCENARIO" node "$D/job.mjs"
