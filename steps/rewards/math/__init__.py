"""The verifier of mathematical answers (§2.3.5: "one answer has many forms"), by rule; the report judges by model.

A wrong answer taken for a right one is what a policy learns to give, so every doubt is decided against the answer. An
answer and its reference are each read once into a typed form (`parse`, `forms`); there it is decided what may be
compared with what (`compare`). What then is left to compare are expressions: exactly where both are rational
(`evaluate`), otherwise numerically with relative precision, in processes that can be killed (`pool`, `worker`,
`algebra`). `judge` is the way in.
"""
