treadle_test(reference.events
  SOURCES events_test.cpp events_model.cpp
  PRECOMPILED tensor
  LIBRARIES treadle_events treadle_base nlohmann_json::nlohmann_json
  LABEL reference)
