output "file_system" {
  description = "What a volume needs to mount it."
  value = {
    id         = aws_fsx_lustre_file_system.this.id
    dns_name   = aws_fsx_lustre_file_system.this.dns_name
    mount_name = aws_fsx_lustre_file_system.this.mount_name
    gib        = var.capacity_gib
  }
}
