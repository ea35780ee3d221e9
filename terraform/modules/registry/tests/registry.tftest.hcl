mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name    = "longhaul"
  key_arn = "arn:aws:kms:us-east-1:123456789012:key/cluster"
}

run "keeps_tags_as_they_are_and_scans_what_is_pushed" {
  assert {
    condition     = alltrue([for repository in aws_ecr_repository.this : repository.image_tag_mutability == "IMMUTABLE"])
    error_message = "A tag that moves would make a run's record wrong."
  }
  assert {
    condition     = alltrue([for repository in aws_ecr_repository.this : repository.image_scanning_configuration[0].scan_on_push])
    error_message = "Every image must be scanned."
  }
  assert {
    condition     = alltrue([for repository in aws_ecr_repository.this : repository.encryption_configuration[0].kms_key == var.key_arn])
    error_message = "Images must be encrypted by our key."
  }
  assert {
    condition     = toset(keys(output.repositories)) == toset(["gpu", "cpu", "sandbox"]) && output.registry == "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    error_message = "Whoever pushes images needs these."
  }
}

run "refuses_to_forget_images_of_runs_that_may_be_resumed" {
  command = plan
  variables {
    keep_images = 1
  }
  expect_failures = [var.keep_images]
}
