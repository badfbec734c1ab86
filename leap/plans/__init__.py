"""What a model's text says, and how good it is: reading, scoring and diagnosing a plan."""
