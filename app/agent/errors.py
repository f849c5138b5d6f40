"""Errors of the agent that are shown to the visitor."""

from app.errors import BadInput, StudioError


class TooManySessions(StudioError):
    zh = "智能体的 {limit} 个解释器都在使用中，请稍后再试。"
    en = "All {limit} interpreters are in use. Please try again later."


class OwnSessionsSpent(StudioError):
    zh = "你（或你所在的网络）已占用 {limit} 个解释器。请先关闭其中一个页面。"
    en = "You, or your network, hold {limit} interpreters already. Close one of those pages first."


class AlreadyRunning(StudioError):
    zh = "上一个任务还在运行。请等它结束，或先点「停止」。"
    en = "The last task is still running. Wait for it, or press Stop first."


class FilesOff(StudioError):
    zh = "这台服务器的沙箱不允许读写文件，不能上传。"
    en = "The sandbox of this server allows no files, so nothing can be uploaded."


class FileTooLarge(BadInput):
    zh = "文件 {name} 有 {mib} MiB，最多 {limit} MiB。"
    en = "The file {name} has {mib} MiB; {limit} MiB are allowed."


class NoTask(BadInput):
    zh = "请先写下要完成的任务。"
    en = "Please write down a task first."


class NoFile(BadInput):
    zh = "没有选中文件。"
    en = "No file is chosen."


class ToolStopped(StudioError):
    zh = "工具的调用已停止。"
    en = "The call of the tool was stopped."
