# opencode with the adapter @ai-sdk/openai, configured by opencode.json
opencode_job "@ai-sdk/openai" "${MODEL:-gpt-mock}"
