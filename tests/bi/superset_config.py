"""Superset for a test: its own database is a file in SUPERSET_HOME, and there is nobody to protect it from."""

import os

SECRET_KEY = "not a secret: a test's"
SQLALCHEMY_DATABASE_URI = "sqlite:///" + os.environ["SUPERSET_HOME"] + "/superset.db"
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
