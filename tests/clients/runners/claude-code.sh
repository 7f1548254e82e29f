# Claude Code: messages API; ANTHROPIC_AUTH_TOKEN goes as Bearer
D="$(npm_dir claude-code-2.1.330 @anthropic-ai/claude-code@2.1.330)" || exit 1
job_run ANTHROPIC_BASE_URL="$ORIGIN" ANTHROPIC_AUTH_TOKEN="$KEY" CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
  DISABLE_AUTOUPDATER=1 DISABLE_TELEMETRY=1 DISABLE_ERROR_REPORTING=1 \
  "$D/node_modules/.bin/claude" $AGAIN -p --model "${MODEL:-claude-sonnet-4-5}" --allowedTools "Bash,Read" -- "$PROMPT"
