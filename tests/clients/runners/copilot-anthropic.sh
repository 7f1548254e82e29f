# GitHub Copilot CLI with a key of its own, messages API; the key goes as x-api-key
copilot_job anthropic "$ORIGIN" "${MODEL:-claude-mock}"
