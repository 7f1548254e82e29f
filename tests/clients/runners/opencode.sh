# opencode with the adapter @ai-sdk/openai-compatible, configured by opencode.json
opencode_job "@ai-sdk/openai-compatible" "${MODEL:-gpt-mock}"
