"""How far Spark is with what it is doing."""

import time

from pyspark.sql import SparkSession


def stage_progress(spark: SparkSession) -> str | None:
    """The stage under way in words: tasks done, rows, rate, and the time left at that rate.

    Returns:
        The words; None where no task is under way. Rows are those read so far, as the tasks tell
        every few seconds.
    """
    assert spark.sparkContext._jsc is not None, "the session is running"
    stages = spark.sparkContext._jsc.sc().statusStore().activeStages()
    running = [stage for stage in map(stages.apply, range(stages.size())) if stage.numActiveTasks()]
    if not running:
        return None
    stage = max(running, key=lambda stage: stage.numTasks())
    done, tasks = stage.numCompleteTasks(), stage.numTasks()
    seconds = time.time() - stage.submissionTime().get().getTime() / 1000
    words = f"stage {stage.stageId()}: {done:,} of {tasks:,} tasks"
    if rows := stage.inputRecords() + stage.shuffleReadRecords():
        words += f", {rows:,} rows, {rows / seconds:,.0f} rows/s"
    if done:
        words += f", about {seconds / done * (tasks - done):,.0f} s left"
    return words
