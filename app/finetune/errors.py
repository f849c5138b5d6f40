"""Errors of the fine-tuning service that concern runs."""

from app.errors import BadInput, StudioError


class StillRunning(BadInput):
    zh = "这次训练还在进行。请先停止它。"
    en = "This run is still going on. Stop it first."


class NothingToResume(BadInput):
    zh = "这次训练在第 {step} 步没有检查点。"
    en = "This run has no checkpoint at step {step}."


class TrainedElsewhere(BadInput):
    zh = "这个适配器是在别处训练的，这里没有可以继续训练的检查点。"
    en = "This adapter was trained elsewhere: there is nothing here that its training could go on from."


class NoRepository(BadInput):
    zh = "{name} 不是仓库名。请写成 所有者/名称，如 lin/assistant-lora。"
    en = "{name} is no repository. Write it as OWNER/NAME, such as lin/assistant-lora."


class NoRepositories(BadInput):
    zh = "这台服务器对外开放，不从访客指定的仓库下载。请上传适配器的文件。"
    en = "This server is open to strangers and fetches no repository of their choice. Upload the adapter's files."


class AllStepsDone(BadInput):
    zh = "这次训练的 {total} 步已全部完成。请增加步数再继续。"
    en = "All {total} steps of this run are done. Add steps to go on."


class NothingToJudge(BadInput):
    zh = "这次训练还没有检查点。"
    en = "This run has no checkpoint yet."


class TrainsNoVision(BadInput):
    zh = "{base} 是看图模型，这里不能训练它。请选择一个文字模型作为基座。"
    en = "{base} is a model that sees pictures and cannot be trained here. Choose a text model as the base."


class TrainsNoGguf(BadInput):
    zh = "{base} 是 GGUF 文件，这里不能训练它。请选择它原来的模型作为基座。"
    en = "{base} is a GGUF file and cannot be trained here. Choose the model that it was made from as the base."


class NeedsCuda(BadInput):
    zh = "QLoRA（4 位）训练需要 CUDA 显卡。请改用 LoRA。"
    en = "QLoRA (4-bit) training needs a CUDA card. Choose LoRA."


class DiskFull(StudioError):
    zh = "磁盘写满了，训练停在第 {step} 步；之前保存的检查点都还在。请清理磁盘，再继续训练。"
    en = "The disk is full; training ended at step {step}. The checkpoints saved before are kept: make room and resume."


class OutOfMemory(StudioError):
    zh = "训练停在第 {step} 步：内存不够。请减小每步行数、每行最多 token 数或秩，再继续或重新开始。"
    en = "Out of memory at step {step}. Lower rows a step, most tokens a row or the rank, then resume or start anew."


class TrainerKilled(StudioError):
    zh = "训练进程在第 {step} 步被终止，可能是内存不够。{what_next}"
    en = "The training process was killed at step {step}, maybe because memory ran out. {what_next}"


class TrainerFailed(StudioError):
    zh = "训练进程在第 {step} 步出错退出，原因见下方日志。{what_next}"
    en = "The training process ended with an error at step {step}; the log tells more. {what_next}"


class CanResume(StudioError):
    zh = "第 {checkpoint} 步的检查点还在，可以从那里继续。"
    en = "The checkpoint of step {checkpoint} is kept: resume from there."


class MustStartAnew(StudioError):
    zh = "还没有检查点，请重新开始。"
    en = "It had no checkpoint yet: start it again."


class WentOn(StudioError):
    zh = "训练时服务器和训练进程意外结束；已从第 {step} 步自动继续。"
    en = "The server and the training ended unexpectedly; training goes on by itself from step {step}."


class WaitsForRoom(StudioError):
    zh = "内存正被别的模型使用，空出来后自动开始。"
    en = "Other models are using the memory; it starts by itself when they are done."


class Diverged(StudioError):
    zh = "第 {step} 步的损失不再是有限的数，训练已停止。请调低学习率，从更早的检查点继续或重新开始。"
    en = "The loss was no number any more at step {step}. Lower the learning rate, and resume earlier or start anew."


class StoppedEarly(StudioError):
    zh = "验证损失连续 {patience} 个检查点没有下降，训练提前结束；采用第 {best} 步的检查点。"
    en = "The validation loss fell no further for {patience} checkpoints, so the run ended early; step {best} is used."
