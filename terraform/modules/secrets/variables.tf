variable "name" {
  type        = string
  description = "What the secret's name begins with."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 32 lower-case letters, digits and hyphens, and begin with a letter: longhaul, for one."
  }
}

variable "key_arn" {
  type        = string
  description = "KMS key that encrypts the secret; the same as the artifacts', so that a task needs one key."
}
