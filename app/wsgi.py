"""What gunicorn serves: `gunicorn -c app/gunicorn_conf.py app.wsgi:app`."""

from gevent import monkey

monkey.patch_all()

# Everything below is imported patched.
import gc  # noqa: E402

from app import telemetry  # noqa: E402
from app.factory import create_app  # noqa: E402
from core import logs, metrics_process, tracing  # noqa: E402

logs.configure("api")
tracing.configure("api")
app = create_app()
metrics_process.start("api", metrics_process.live_recorder, telemetry.fold)
# What was loaded stays: no collection needs to walk through it again, which took tenths of a second of all streams.
gc.collect()
gc.freeze()
