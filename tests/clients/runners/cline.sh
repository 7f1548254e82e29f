# Cline CLI: chat completions; address and key are stored by `cline auth`
D="$(npm_dir cline-3.0.65 cline@3.0.65)" || exit 1
[ -n "$AGAIN" ] || job_run "$D/node_modules/.bin/cline" auth -p openai-compatible -k "$KEY" -m "${MODEL:-gpt-mock}" -b "$ORIGIN/v1"
job_run "$D/node_modules/.bin/cline" $AGAIN "$PROMPT"
