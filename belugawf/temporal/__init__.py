"""The provider `temporal`: the same workflow modules on a Temporal cluster.

Only this package imports `temporalio`, the extra `belugawf[temporal]`.
"""
