# gptme: chat completions, and one request that is not streamed for a title
D="$(pip_dir gptme-0.35.1 gptme==0.35.1)" || exit 1
job_run OPENAI_BASE_URL="$ORIGIN/v1" OPENAI_API_KEY="$KEY" "$D/bin/gptme" $AGAIN --model "local/${MODEL:-gpt-mock}" \
  --non-interactive "$PROMPT"
