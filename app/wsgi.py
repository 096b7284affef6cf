"""What gunicorn serves: `gunicorn -c app/gunicorn_conf.py app.wsgi:app`."""

from gevent import monkey

monkey.patch_all()

from app.factory import create_app  # noqa: E402  (everything below is imported patched)

app = create_app()
