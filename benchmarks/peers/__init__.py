"""The same three workloads in other engines of durable workflows, beside ours and bare commits."""
