"""The server behind `faceembed serve`: an HTTP API over one pair of models, and the page that uses it.

    http (time-outs of connections) ─► security (hosts, headers, key) ─► limits (rate) ─► form (streamed, in memory)
        ─► batcher (photos of all clients together) ─► engine.serving ─► answers (JSON) ─► api

Photos live in memory while their request does, and nowhere else.
"""
