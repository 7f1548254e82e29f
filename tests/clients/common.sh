# What runners of one client share; sourced after the shared lib.sh.

# opencode_job ADAPTER MODEL
opencode_job() {
  local dir; dir="$(npm_dir opencode-1.18.33 opencode-ai@1.18.33)" || exit 1
  if [ -n "${EXEC_HOME:-}" ]; then
    printf '{"permission": {"*": "allow"}}\n' > "$WORK_DIR/opencode.json"
    job_run OPENCODE_DISABLE_MODELS_FETCH=1 OPENCODE_DISABLE_AUTOUPDATE=1 \
      "$dir/node_modules/.bin/opencode" run --model openai/gpt-4o-mini "$PROMPT"
    return
  fi
  cat > "$WORK_DIR/opencode.json" <<JSON
{"\$schema": "https://opencode.ai/config.json", "autoupdate": false, "share": "disabled", "permission": {"*": "allow"},
 "provider": {"local": {"npm": "$1", "name": "local", "options": {"baseURL": "$ORIGIN/v1", "apiKey": "$KEY"},
   "models": {"$2": {"name": "$2", "tool_call": true, "limit": {"context": 128000, "output": 8000}}}}}}
JSON
  job_run OPENCODE_DISABLE_MODELS_FETCH=1 OPENCODE_DISABLE_AUTOUPDATE=1 \
    "$dir/node_modules/.bin/opencode" run $AGAIN --model "local/$2" "$PROMPT"
}

# copilot_job TYPE BASE MODEL [NAME=VALUE]
copilot_job() {
  local dir; dir="$(npm_dir copilot-1.0.102 @github/copilot@1.0.102)" || exit 1
  job_run COPILOT_PROVIDER_BASE_URL="$2" COPILOT_PROVIDER_TYPE="$1" COPILOT_PROVIDER_API_KEY="$KEY" COPILOT_MODEL="$3" \
    COPILOT_OFFLINE=true ${4:-COPILOT_AUTO_UPDATE=false} \
    "$dir/node_modules/.bin/copilot" $AGAIN --allow-all-tools -p "$PROMPT"
}

# qwen_job TYPE NAME=VALUE...
qwen_job() {
  local dir type="$1"; shift
  dir="$(npm_dir qwen-0.24.4 @qwen-code/qwen-code@0.24.4)" || exit 1
  mkdir -p "$HOME_DIR/.qwen"
  printf '{"privacy": {"usageStatisticsEnabled": false}, "general": {"disableAutoUpdate": true}}\n' > "$HOME_DIR/.qwen/settings.json"
  # `exec` gives the type itself, and Qwen takes it once only.
  local kind=(--auth-type "$type")
  [ -z "${EXEC_HOME:-}" ] || kind=()
  job_run "$@" "$dir/node_modules/.bin/qwen" $AGAIN "${kind[@]}" --approval-mode yolo -p "$PROMPT"
}
