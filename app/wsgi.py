"""What gunicorn serves: `gunicorn -c app/gunicorn_conf.py app.wsgi:app`."""

from core import startup

startup.begin()

# Everything below is imported patched.
from app import telemetry  # noqa: E402
from app.factory import create_app  # noqa: E402
from core import logs, metrics_process, tracing  # noqa: E402

logs.configure("api")
tracing.configure("api")
app = create_app()
metrics_process.start("api", metrics_process.live_recorder, telemetry.fold)
