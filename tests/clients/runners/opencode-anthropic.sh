# opencode with the adapter @ai-sdk/anthropic, configured by opencode.json
opencode_job "@ai-sdk/anthropic" "${MODEL:-claude-mock}"
