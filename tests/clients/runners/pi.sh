# pi: chat completions; address and key stand in ~/.pi/agent/models.json
D="$(npm_dir pi-0.73.1 @mariozechner/pi-coding-agent@0.73.1)" || exit 1
mkdir -p "$HOME_DIR/.pi/agent"
cat > "$HOME_DIR/.pi/agent/models.json" <<JSON
{"providers": {"infershield": {"baseUrl": "$ORIGIN/v1", "api": "openai-completions", "apiKey": "$KEY",
  "models": [{"id": "${MODEL:-gpt-mock}"}]}}}
JSON
job_run "$D/node_modules/.bin/pi" $AGAIN --provider infershield --model "${MODEL:-gpt-mock}" -p "$PROMPT"
