"""The words of durable execution: events, commands, policies, payloads, errors. No I/O."""
