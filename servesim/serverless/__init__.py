"""Serverless."""
