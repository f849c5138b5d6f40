"""What cannot be asked of a run, or of training here."""

from app.errors import BadInput


class StillRunning(BadInput):
    zh = "这次训练还在进行。请先停止它。"
    en = "This run is still going on. Stop it first."


class NothingToResume(BadInput):
    zh = "这次训练在第 {step} 步没有检查点。"
    en = "This run has no checkpoint at step {step}."


class AllStepsDone(BadInput):
    zh = "这次训练的 {total} 步已全部完成。请增加步数再继续。"
    en = "All {total} steps of this run are done. Add steps to go on."


class NothingToJudge(BadInput):
    zh = "这次训练还没有检查点。"
    en = "This run has no checkpoint yet."


class TrainsNoVision(BadInput):
    zh = "{base} 是看图模型，这里不能训练它。请选择一个文字模型作为基座。"
    en = "{base} is a model that sees pictures and cannot be trained here. Choose a text model as the base."


class NeedsCuda(BadInput):
    zh = "QLoRA（4 位）训练需要 CUDA 显卡。请改用 LoRA。"
    en = "QLoRA (4-bit) training needs a CUDA card. Choose LoRA."
