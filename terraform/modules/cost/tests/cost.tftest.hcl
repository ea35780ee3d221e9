mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name            = "longhaul"
  monthly_usd     = 2000
  emails          = ["you@example.com"]
  watch_anomalies = true
}

run "makes_no_second_monitor_of_spending_unless_it_is_requested" {
  variables {
    watch_anomalies = false
  }
  assert {
    condition     = length(aws_ce_anomaly_monitor.services) == 0 && length(aws_ce_anomaly_subscription.daily) == 0
    error_message = "An account takes one monitor of its services, and AWS has made it in many."
  }
}

run "tells_people_before_the_money_is_gone" {
  assert {
    condition     = aws_budgets_budget.monthly.limit_amount == "2000" && aws_budgets_budget.monthly.time_unit == "MONTHLY"
    error_message = "The budget is a month's."
  }
  assert {
    condition     = anytrue([for notification in aws_budgets_budget.monthly.notification : notification.notification_type == "FORECASTED"]) && anytrue([for notification in aws_budgets_budget.monthly.notification : notification.threshold == 50])
    error_message = "People must hear of it at half, and as soon as the month is heading past it."
  }
  assert {
    condition     = alltrue([for notification in aws_budgets_budget.monthly.notification : contains(notification.subscriber_email_addresses, "you@example.com")])
    error_message = "Each alert must reach somebody."
  }
  assert {
    condition     = one(aws_ce_anomaly_subscription.daily[0].subscriber).address == "you@example.com" && output.budget == "longhaul-monthly"
    error_message = "So must unusual spending."
  }
}

run "refuses_a_budget_of_nothing_that_nobody_hears_of" {
  command = plan
  variables {
    emails      = []
    monthly_usd = 0
  }
  expect_failures = [var.emails, var.monthly_usd]
}
