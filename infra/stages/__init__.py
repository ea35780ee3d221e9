"""What a stage is, the key that names its version, and running one or reusing what it made."""
