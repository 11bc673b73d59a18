"""What a model is told before it hears the conversation: templates, the agent group's own words, memory, skills."""
