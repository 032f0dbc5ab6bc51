"""The HTTP edge, one module a resource.

A resource is a list of routes: plain functions, each declared with what it takes, gives and refuses. What runs and
what `/openapi.json` says come from the same declaration.
"""
