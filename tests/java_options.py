"""How the tests start Java; the heap gets by with one core."""

# For one job: quick compilation beats fast code. With the first compiler alone Java keeps little
# room for code: Spark fills it.
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
# For the session that many tests share: the second compiler pays for what is called most, and not
# for what Spark generates for each query and then forgets. Small queries leave much garbage and
# many classes.
LASTING_JAVA = (
    "-XX:Tier4InvocationThreshold=100000 -XX:Tier4MinInvocationThreshold=20000 "
    "-XX:Tier4CompileThreshold=200000 -XX:Tier4BackEdgeThreshold=1000000 "
    "-XX:ReservedCodeCacheSize=400m -XX:MetaspaceSize=400m -XX:+UseSerialGC -Xms1g -Xmn600m"
)
