variable "name" {
  type        = string
  description = "What budget and alarm are named after."
}

variable "monthly_usd" {
  type        = number
  description = "The month's budget in US dollars, for the whole account."

  validation {
    condition     = var.monthly_usd > 0
    error_message = "monthly_usd must be more than 0: terraform/README.md tells what each size costs an hour."
  }
}

variable "emails" {
  type        = set(string)
  description = "Who gets an e-mail."

  validation {
    condition     = length(var.emails) > 0 && alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", email))])
    error_message = "emails must hold one address at least: a budget without recipients has no effect."
  }

  validation {
    condition     = length(var.emails) <= 10
    error_message = "emails may hold 10 addresses, as AWS Budgets takes: use a mailing list."
  }
}

variable "watch_anomalies" {
  type        = bool
  description = "Whether to watch for unusual spending too; an account may have one such monitor by service, and AWS makes it in many: leave it off there."
  default     = false
}
