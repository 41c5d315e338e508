"""Where a question waits for a human: asked by a worker, kept and answered in the control process, used once. See docs/approvals.md."""
