variable "name" {
  type        = string
  description = "The key's alias, without alias/."

  validation {
    condition     = can(regex("^[a-zA-Z0-9/_-]{1,200}$", var.name)) && !startswith(var.name, "aws/")
    error_message = "name is the alias of a KMS key: give letters, digits, / _ and -, and do not begin with aws/."
  }
}

variable "description" {
  type        = string
  description = "What the key encrypts; shown beside it in the console."

  validation {
    condition     = length(var.description) > 0
    error_message = "description must say what the key encrypts, for whoever finds it in the console."
  }
}

variable "for_logs" {
  type        = bool
  description = "Whether CloudWatch Logs may encrypt this account's log groups with it."
  default     = false
}
