variable "bucket" {
  type        = string
  description = "The bucket's name, unique in all of S3."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket must be 3 to 63 lower-case letters, digits and hyphens (no dots: their certificates do not match)."
  }
}

variable "prefix" {
  type        = string
  description = "What all of the project's keys begin with, without slashes at its ends."
  default     = "longhaul"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9/_-]*[a-z0-9]$", var.prefix))
    error_message = "prefix must be lower-case letters, digits, -, _ and /, without a slash at its ends: longhaul, for one."
  }
}

variable "key_arn" {
  type        = string
  description = "KMS key that encrypts every object."
}

variable "noncurrent_days" {
  type        = number
  description = "Days for which an overwritten or deleted object can be brought back."
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 7
    error_message = "noncurrent_days must be 7 or more: a week is little time to notice that something was deleted."
  }
}

variable "abort_upload_days" {
  type        = number
  description = "Days after which an upload that was not finished is dropped."
  default     = 7

  validation {
    condition     = var.abort_upload_days >= 2 && var.abort_upload_days <= 30
    error_message = "abort_upload_days must be 2 to 30: a resumed upload needs its parts, and forgotten parts cost money."
  }
}
