"""Audits: what a classifier relies on over a set of data, and which of it looks like a shortcut."""

from xlens.auditing.alarms import Alarm
from xlens.auditing.chance import Association
from xlens.auditing.group import Group
from xlens.auditing.remedy import Remedy
from xlens.auditing.result import Audit
from xlens.auditing.run import audit
from xlens.auditing.tone import Tone

__all__ = ["Alarm", "Association", "Audit", "Group", "Remedy", "Tone", "audit"]
