# Continue CLI: chat completions; address and key stand in config.yaml
D="$(npm_dir continue-1.5.47 @continuedev/cli@1.5.47)" || exit 1
cat > "$JOB/config.yaml" <<YAML
name: local
version: 1.0.0
schema: v1
models:
  - name: local
    provider: openai
    model: ${MODEL:-gpt-mock}
    apiBase: $ORIGIN/v1
    apiKey: $KEY
YAML
job_run CONTINUE_TELEMETRY_ENABLED=0 "$D/node_modules/.bin/cn" $AGAIN --config "$JOB/config.yaml" --auto -p "$PROMPT"
