treadle_test(reference.hostile
  SOURCES hostile_test.cpp ../fuzz/mutator.cpp ../support/heap_meter.cpp
  LABEL reference
  PRECOMPILED tensor
  LIBRARIES treadle_checkpoint nlohmann_json::nlohmann_json)
