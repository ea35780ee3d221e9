output "backend" {
  description = "The stacks' backend: `terraform output -raw backend > ../backend.hcl`, then init them with -backend-config."
  value       = <<-HCL
    bucket       = "${aws_s3_bucket.state.bucket}"
    region       = "${var.region}"
    kms_key_id   = "${module.key.arn}"
    encrypt      = true
    use_lockfile = true
  HCL
}
