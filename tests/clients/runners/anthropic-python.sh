# Anthropic SDK for Python: messages streamed and not, count_tokens, models, tool loop
D="$(pip_dir anthropic-2.12.0 anthropic==2.12.0)" || exit 1
job_run ANTHROPIC_BASE_URL="$ORIGIN" ANTHROPIC_API_KEY="$KEY" PROMPT="$PROMPT" SCENARIO="$SCENARIO" \
  MODEL="${MODEL:-claude-mock}" "$D/bin/python" "$HERE/programs/anthropic_sdk.py"
