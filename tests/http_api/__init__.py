"""The API that programs call over HTTP."""
