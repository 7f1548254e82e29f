# Qwen Code, chat completions
qwen_job openai OPENAI_BASE_URL="$ORIGIN/v1" OPENAI_API_KEY="$KEY" OPENAI_MODEL="${MODEL:-gpt-mock}"
