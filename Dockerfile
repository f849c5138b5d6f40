# CPU:  docker build -t puyu-studio .
# GPU:  docker build -t puyu-studio --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
# Run:  docker run -p 7860:7860 -v studio:/data --read-only --tmpfs /tmp -e PUYU_AUTH=ada:secret puyu-studio
#       (with --gpus all for the GPU variant; -e PUYU_PUBLIC=true lets strangers in on purpose)
FROM python:3.11-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# The libraries change seldom, the application often: a layer for each. torch first, it is most of the size.
WORKDIR /studio
COPY requirements.txt requirements-nodeps.txt ./
RUN pip install --extra-index-url "$TORCH_INDEX" "$(grep '^torch==' requirements.txt)"
RUN pip install -r requirements.txt && pip install --no-deps -r requirements-nodeps.txt

COPY run_gradio.py README.md ./
COPY app app
COPY tabs tabs
COPY assets assets
RUN python -m compileall -q app tabs run_gradio.py \
    && useradd --uid 1000 --create-home studio \
    && install -d -o studio -g studio /data

# Everything that is written lies in /data; the rest may be read-only.
USER 1000
ENV HOME=/data PUYU_HOST=0.0.0.0 PUYU_DATA=/data HF_HOME=/data/hub GRADIO_TEMP_DIR=/data/uploads \
    MPLCONFIGDIR=/data/matplotlib
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
CMD ["python", "run_gradio.py"]
