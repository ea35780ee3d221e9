variable "name" {
  type        = string
  description = "What the repositories' names begin with."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 32 lower-case letters, digits and hyphens, and begin with a letter: longhaul, for one."
  }
}

variable "repositories" {
  type        = set(string)
  description = "Repositories below that name."
  default     = ["gpu", "cpu", "sandbox"]

  validation {
    condition     = length(var.repositories) > 0 && alltrue([for name in var.repositories : can(regex("^[a-z0-9][a-z0-9._-]*$", name))])
    error_message = "repositories must name one at least, of lower-case letters, digits, ., _ and -."
  }
}

variable "key_arn" {
  type        = string
  description = "KMS key that encrypts images."
}

variable "keep_images" {
  type        = number
  description = "Images to keep in each repository."
  default     = 100

  validation {
    condition     = var.keep_images >= 10
    error_message = "keep_images must be 10 or more: a run that is resumed needs the image that it started with."
  }
}
