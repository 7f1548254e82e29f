# GitHub Copilot CLI with a key of its own, responses API
copilot_job openai "$ORIGIN/v1" "${MODEL:-gpt-mock}" COPILOT_PROVIDER_WIRE_API=responses
