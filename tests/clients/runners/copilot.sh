# GitHub Copilot CLI with a key of its own, chat completions
copilot_job openai "$ORIGIN/v1" "${MODEL:-gpt-mock}"
