package lookalikes

import "time"

func inTest() {
	for i := 0; i < 5; i++ {
		if err := work(1); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}
