"""How the tests start Java."""

# Tests are short: quick compilation beats fast code, and one core less for the heap. With the first
# compiler alone Java keeps little room for code: Spark fills it.
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
