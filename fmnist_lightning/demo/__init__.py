"""A page in the browser to try a checkpoint. Needs Gradio (the extra ``demo``)."""
