#!/bin/sh
# Take everything down but what holds data: sh terraform/destroy.sh -var-file=../../sizes/small.tfvars \
#   -var-file=../../mine.tfvars     (the files that the cloud stack was applied with)
#
# The order: what runs inside the cluster, then the protection, then the cloud. Terraform asks before each step. It ends
# with what is left on purpose, and how to delete that.
set -eu
cd "$(dirname "$0")/stacks"

left=$(terraform -chdir=cloud output -raw protected 2>/dev/null) || left="(unknown: the outputs went with an earlier attempt)"
printf 'What holds data:\n%s\n\n' "$left"

terraform -chdir=platform destroy

cd cloud
bucket=$(terraform output -raw store 2>/dev/null | sed -n 's|^s3://\([^/]*\)/.*|\1|p')
# Only what is protected and still there: where a destroy stopped half-way, an apply of all would make the rest again.
protected=$(terraform state list |
  sed -n 's/^module\.\(cluster\.aws_eks_cluster\|database\.aws_db_instance\)\.this$/-target=&/p')
if [ -n "$protected" ]; then
  # shellcheck disable=SC2086  # one argument for each
  terraform apply "$@" -var deletion_protection=false $protected
fi
# A bucket or a repository that holds something is not deleted: the destroy then stops there and can be started again.
terraform destroy "$@" -var deletion_protection=false || {
  echo "Not all is gone. If the bucket or a repository is not empty, delete what is in it and run this again:" >&2
  echo "  aws s3api list-object-versions --bucket ${bucket:-BUCKET}      (every version has to go)" >&2
  printf 'What holds data:\n%s\n' "$left" >&2
  exit 1
}

printf 'What held data:\n%s\n' "$left"
echo "Left: the database's last snapshot (aws rds describe-db-snapshots), keys and the secret for 30 days, and the"
echo "bucket of Terraform's state. To remove that one too: terraform/README.md, 'Take it down'."
